job "canary" {
  group "g" {
    count = 4
    update {
      canary = 1
    }
    service {
      name        = "canary"
      tags        = ["urlprefix-canary.example.com/"]
      canary_tags = ["urlprefix-next.canary.example.com/"]
    }
    task "t" {
      driver = "exec"
    }
  }
}
