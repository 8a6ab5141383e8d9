# rust-lb on every client of the default node pool, on the host's own network. Where Nomad has ACLs, apply rust-lb.policy.hcl first.

variable "image" {
  type        = string
  default     = "rust-lb:latest"
  description = "What the Dockerfile builds, as your registry names it."
}

variable "domain_suffix" {
  type        = string
  default     = "example.com"
  description = "Services without a rule are served at <service>.<domain_suffix>."
}

variable "consul_http_addr" {
  type        = string
  default     = "127.0.0.1:8500"
  description = "The agent on each client."
}

job "rust-lb" {
  type        = "system"
  datacenters = ["*"]
  # Ahead of what it serves.
  priority = 80

  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }

  update {
    # One client after another.
    max_parallel     = 1
    stagger          = "30s"
    min_healthy_time = "10s"
    healthy_deadline = "2m"
  }

  group "proxy" {
    # Out of the catalog first, then the drain.
    shutdown_delay = "2s"

    network {
      mode = "host"
      port "http" { static = 80 }
      port "https" { static = 443 }
      port "admin" { static = 8080 }
    }

    # It holds ports: on its client it is started again for ever, and nowhere else.
    restart {
      attempts = 10
      interval = "5m"
      delay    = "1s"
      mode     = "delay"
    }

    task "rust-lb" {
      driver = "docker"

      # NOMAD_TOKEN for the task API, renewed by the client.
      identity {
        env = true
      }

      config {
        image        = var.image
        network_mode = "host"
        # Low ports, and nothing else that root has; the certificates of /pv/CERTS are root's alone.
        cap_drop = ["all"]
        cap_add  = ["net_bind_service"]
        volumes = [
          "/pv/CERTS:/pv/CERTS",
          "/var/lib/rust-lb:/var/lib/rust-lb",
        ]
      }
      user = "root"

      env {
        NOMAD_ADDR       = "unix://${NOMAD_SECRETS_DIR}/api.sock"
        CONSUL_HTTP_ADDR = var.consul_http_addr
        DOMAIN_SUFFIX    = var.domain_suffix
      }

      # SIGTERM: not ready first, then it drains for at most 30 s (lifeCycle.graceTimeOut). A client allows no more than its
      # `max_kill_timeout`, 30s by default: set that to "60s" in the client's configuration, or the last streams are cut.
      kill_signal  = "SIGTERM"
      kill_timeout = "45s"

      resources {
        cpu        = 500
        memory     = 128
        memory_max = 512
      }
    }

    service {
      name     = "rust-lb"
      provider = "nomad"
      port     = "admin"
      # The admin entry point is on loopback.
      address = "127.0.0.1"

      check {
        type     = "http"
        path     = "/ready"
        interval = "10s"
        timeout  = "2s"
      }
    }
  }
}
