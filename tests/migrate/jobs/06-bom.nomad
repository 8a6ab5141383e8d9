job "bom" {
  group "bom" {
    service {
      name = "bom"
      tags = ["urlprefix-bom.example.com/"]
    }
    task "t" {
      driver = "exec"
    }
  }
}
