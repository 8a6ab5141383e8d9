# Traefik's dialect, as Traefik v3 documents it.

job "traefik" {
  group "web" {
    # Out of the catalog first, then the end.
    shutdown_delay = "5s"

    network {
      port "http" {}
    }

    service {
      name     = "shop"
      provider = "nomad"
      port     = "http"
      tags = [
        "traefik.enable=true",
        "traefik.http.routers.shop.rule=Host(`shop.example.com`)",
        "traefik.http.routers.shop.entryPoints=websecure",
        "traefik.http.routers.shop.tls.certResolver=default",
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
