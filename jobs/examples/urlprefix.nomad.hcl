# Fabio's dialect: host and path, options behind them. It is read until the service has `traefik.*` tags that route it.

job "urlprefix" {
  group "web" {
    # Out of the catalog first, then the end.
    shutdown_delay = "5s"

    network {
      port "http" {}
    }

    service {
      name     = "urlprefix"
      provider = "consul"
      port     = "http"
      tags = [
        "urlprefix-old.example.com/",
        "urlprefix-api.example.com/v1 strip=/v1",
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
