variable "host" {
  type    = string
  default = "app.example.com"
}

variable "domain" {
  description = "where it lives"
}

job "app" {
  group "app" {
    count = var.count
    service {
      name = "app"
      tags = [
        "urlprefix-${var.host}/",
        "urlprefix-${var.sub}.${var.domain}/api strip=/api",
        "version-${var.version}",
      ]
    }
    task "t" {
      driver = "docker"
    }
  }
}

variable "count" { default = 2 }
variable "sub" { default = "x" }
variable "version" { default = "1" }
