job "redirect" {
  group "g" {
    service {
      name = "redirect"
      tags = [
        "urlprefix-old.example.com/ redirect=301,https://new.example.com$path",
        "urlprefix-new.example.com/",
      ]
    }
    task "t" {
      driver = "exec"
    }
  }
}
