variable "hosts" { default = ["a.loop.example.com", "b.loop.example.com"] }

job "loop" {
  group "g" {
    service {
      name = "loop"
      tags = flatten([for h in var.hosts : ["urlprefix-${h}/"]])
    }
    task "t" {
      driver = "exec"
    }
  }
}
