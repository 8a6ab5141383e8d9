job "site" {
  group "site" {
    service {
      name = "site"
      port = "http"
      tags = [
        "urlprefix-site.example.com/",
      ]
    }

    task "nginx" {
      driver = "docker"

      template {
        destination = "local/nginx.conf"
        data        = <<-EOF
          server {
            # "urlprefix-site.example.com/" is not a tag here
            listen {{ env "NOMAD_PORT_http" }};
            return 301 https://$host$request_uri; $${literal}
          }
        EOF
      }

      template {
        destination = "secrets/env"
        env         = true
        data        = <<EOT
KEY={{ with secret "kv/site" }}{{ .Data.key }}{{ end }}
NAME=${var.name}
EOT
      }
    }
  }
}

variable "name" {
  default = "site"
}
