# A canary with a host of its own until it is promoted (`nomad deployment promote`); then it has the other tags.
# Both sets are whole: a router that only one of them names goes with it.

job "canary" {
  group "web" {
    count = 3
    # Out of the catalog first, then the end.
    shutdown_delay = "5s"

    network {
      port "http" {}
    }

    update {
      canary           = 1
      max_parallel     = 1
      min_healthy_time = "10s"
      healthy_deadline = "2m"
    }

    service {
      name     = "pay"
      provider = "nomad"
      port     = "http"
      tags = [
        "traefik.enable=true",
        "traefik.http.routers.pay.rule=Host(`pay.example.com`)",
      ]

      canary_tags = [
        "traefik.enable=true",
        "traefik.nomad.canary=true",
        "traefik.http.routers.pay-canary.rule=Host(`canary.pay.example.com`)",
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
