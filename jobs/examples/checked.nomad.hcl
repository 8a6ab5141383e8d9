# Checked twice: by Nomad, whose checks decide whether a deployment goes on (and are heeded for services of Nomad's own catalog),
# and by rust-lb itself, which notices within seconds.

job "checked" {
  group "web" {
    count = 2
    # Out of the catalog first, then the end.
    shutdown_delay = "5s"

    network {
      port "http" {}
    }

    service {
      name     = "checked"
      provider = "nomad"
      port     = "http"
      tags = [
        "traefik.enable=true",
        "traefik.http.routers.checked.rule=Host(`checked.example.com`)",
        "traefik.http.services.checked.loadBalancer.healthCheck.path=/health",
        "traefik.http.services.checked.loadBalancer.healthCheck.interval=2s",
        "traefik.http.services.checked.loadBalancer.healthCheck.timeout=1s",
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
