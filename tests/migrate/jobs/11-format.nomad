variable "zone" { default = "eu" }

job "format" {
  group "g" {
    service {
      name = "format"
      tags = [format("urlprefix-%s.format.example.com/", var.zone), "plain"]
    }
    task "t" {
      driver = "exec"
    }
  }
}
