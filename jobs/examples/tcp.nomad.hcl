# TCP by the name that a TLS client asks for (`redis-cli --tls --sni redis.example.com`), on the port of websecure: TLS ends
# here, the server is plain. With `tls.passthrough=true` the server has the certificate itself.

job "tcp" {
  group "db" {
    # Out of the catalog first, then the end.
    shutdown_delay = "5s"

    network {
      port "redis" {}
    }

    service {
      name     = "redis"
      provider = "nomad"
      port     = "redis"
      tags = [
        "traefik.enable=true",
        "traefik.tcp.routers.redis.rule=HostSNI(`redis.example.com`)",
        "traefik.tcp.routers.redis.entryPoints=websecure",
        "traefik.tcp.routers.redis.tls.certResolver=default",
      ]

      check {
        type     = "tcp"
        interval = "10s"
        timeout  = "2s"
      }
    }

    task "server" {
      driver = "docker"

      config {
        image = "docker.io/library/redis:7"
        ports = ["redis"]
        args  = ["--port", "${NOMAD_PORT_redis}"]
      }

      resources {
        cpu    = 50
        memory = 32
      }
    }
  }
}
