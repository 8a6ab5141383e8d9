# A client stays on its server, by a cookie.

job "sticky" {
  group "web" {
    count = 3
    # Out of the catalog first, then the end.
    shutdown_delay = "5s"

    network {
      port "http" {}
    }

    service {
      name     = "cart"
      provider = "nomad"
      port     = "http"
      tags = [
        "traefik.enable=true",
        "traefik.http.routers.cart.rule=Host(`cart.example.com`)",
        "traefik.http.services.cart.loadBalancer.sticky.cookie.name=cart",
        "traefik.http.services.cart.loadBalancer.sticky.cookie.secure=true",
        "traefik.http.services.cart.loadBalancer.sticky.cookie.httpOnly=true",
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
