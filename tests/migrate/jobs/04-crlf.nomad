job "win" {
  group "win" {
    service {
      name = "win"
      tags = [
        "urlprefix-win.example.com/", # CRLF
        "x"
      ]
    }
    task "t" {
      driver = "exec"
    }
  }
}
