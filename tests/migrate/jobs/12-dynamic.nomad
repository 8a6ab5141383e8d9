variable "sites" {
  type    = list(string)
  default = ["a", "b"]
}

job "dynamic" {
  group "g" {
    dynamic "service" {
      for_each = var.sites
      content {
        name = "site-${service.value}"
        port = "http"
        tags = ["urlprefix-${service.value}.dynamic.example.com/"]
      }
    }
    task "t" {
      driver = "exec"
    }
  }
}
