# deployed by the pipeline
job "hind" {
  datacenters = ["dc1"]
  group "main" {
    network {
      port "http" {
        to = 5000
      }
    }
    service {
      name = "hind-main"
      port = "http"
      tags = ["https://main.hind.example.com"]
      check {
        type     = "http"
        path     = "/"
        interval = "10s"
        timeout  = "2s"
      }
    }
    task "main" {
      driver = "docker"
    }
  }
}
