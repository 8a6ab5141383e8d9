locals {
  hosts = ["urlprefix-local.example.com/"]
  other = "blue"
}

job "locals" {
  group "g" {
    service {
      name = "locals"
      tags = concat(local.hosts, [local.other])
    }
    task "t" {
      driver = "exec"
    }
  }
}
