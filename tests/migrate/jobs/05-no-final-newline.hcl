job "tail" {
  group "tail" {
    service {
      name = "tail"
      tags = ["urlprefix-tail.example.com/"]
    }
    task "t" {
      driver = "exec"
    }
  }
}