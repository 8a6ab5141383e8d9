variable "public" { default = true }

job "condition" {
  group "g" {
    service {
      name = "condition"
      tags = var.public ? ["urlprefix-public.example.com/"] : ["urlprefix-private.example.com/"]
    }
    task "t" {
      driver = "exec"
    }
  }
}
