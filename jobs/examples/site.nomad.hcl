# HinD's dialect: a tag that is the site's address. The certificate is had on its own; http:// is redirected.

job "site" {
  group "web" {
    # Out of the catalog first, then the end.
    shutdown_delay = "5s"

    network {
      port "http" {}
    }

    service {
      name     = "site"
      provider = "consul"
      port     = "http"
      tags = [
        "https://site.example.com",
      ]

      check {
        type     = "http"
        path     = "/health"
        interval = "10s"
        timeout  = "2s"
      }
    }

    task "server" {
      driver = "docker"

      config {
        image = "docker.io/traefik/whoami:v1.11"
        ports = ["http"]
        args  = ["--port", "${NOMAD_PORT_http}"]
      }

      resources {
        cpu    = 50
        memory = 32
      }
    }
  }
}
