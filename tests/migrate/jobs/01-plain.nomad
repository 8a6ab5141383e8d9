# The shop's front page.
job "shop" {
  datacenters = ["dc1"]
  type        = "service"

  group "web" {
    count = 3

    network {
      port "http" { to = 8080 }
    }

    service {
      name = "shop"
      port = "http"

      # Fabio finds us by this one.
      tags = [
        "urlprefix-shop.example.com/", # the site
        "urlprefix-www.shop.example.com/",

        "release-42",
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
        image = "registry.example.com/shop:42"
        ports = ["http"]
      }
    }
  }
}
