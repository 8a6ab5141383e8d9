# Two groups behind one host: the path decides. A longer rule goes first, so no priority is needed.

job "groups" {
  group "pages" {
    count = 2
    # Out of the catalog first, then the end.
    shutdown_delay = "5s"

    network {
      port "http" {}
    }

    service {
      name     = "pages"
      provider = "nomad"
      port     = "http"
      tags = [
        "traefik.enable=true",
        "traefik.http.routers.pages.rule=Host(`app.example.com`)",
      ]
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

  group "api" {
    count = 2
    # Out of the catalog first, then the end.
    shutdown_delay = "5s"

    network {
      port "http" {}
    }

    service {
      name     = "api"
      provider = "nomad"
      port     = "http"
      tags = [
        "traefik.enable=true",
        "traefik.http.routers.api.rule=Host(`app.example.com`) && PathPrefix(`/api`)",
        "traefik.http.routers.api.middlewares=api-strip",
        "traefik.http.middlewares.api-strip.stripPrefix.prefixes=/api",
      ]
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
