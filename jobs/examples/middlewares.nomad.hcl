# Middlewares, in the order that the router names them. The password is `change-me`: `htpasswd -nB admin` makes another.

job "middlewares" {
  group "web" {
    # Out of the catalog first, then the end.
    shutdown_delay = "5s"

    network {
      port "http" {}
    }

    service {
      name     = "tools"
      provider = "nomad"
      port     = "http"
      tags = [
        "traefik.enable=true",
        "traefik.http.routers.tools.rule=Host(`tools.example.com`)",
        "traefik.http.routers.tools.middlewares=tools-from,tools-rate,tools-auth,tools-headers",
        "traefik.http.middlewares.tools-from.ipAllowList.sourceRange=10.0.0.0/8,192.168.0.0/16",
        "traefik.http.middlewares.tools-rate.rateLimit.average=50",
        "traefik.http.middlewares.tools-rate.rateLimit.burst=100",
        "traefik.http.middlewares.tools-auth.basicAuth.users=admin:$apr1$examples$tqzKwxj7P9QP4O716eLJM.",
        "traefik.http.middlewares.tools-headers.headers.customResponseHeaders.X-Robots-Tag=noindex",
        "traefik.http.middlewares.tools-headers.headers.stsSeconds=31536000",
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
