job "glob" {
  group "g" {
    service {
      name = "glob"
      tags = [
        "urlprefix-*.glob.example.com/",
        "urlprefix-/everywhere/",
      ]
    }
    task "t" {
      driver = "exec"
    }
  }
}
