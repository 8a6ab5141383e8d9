job "weight" {
  group "blue" {
    service {
      name = "weight-blue"
      tags = ["urlprefix-weight.example.com/ weight=0.8"]
    }
    task "t" {
      driver = "exec"
    }
  }
  group "green" {
    service {
      name = "weight-green"
      tags = ["urlprefix-weight.example.com/ weight=0.2"]
    }
    task "t" {
      driver = "exec"
    }
  }
}
