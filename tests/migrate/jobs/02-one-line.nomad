job "api" {
  datacenters = ["dc1"]
  group "api" {
    network {
      port "http" {}
    }
    service {
      name = "api"
      port = "http"
      tags = ["urlprefix-api.example.com/v1", "internal"] // one line
    }
    task "api" {
      driver = "docker"
      config { image = "api:1" }
    }
  }
}
