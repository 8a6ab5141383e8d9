job "strip" {
  group "g" {
    service {
      name = "strip"
      tags = [
        "urlprefix-strip.example.com/app strip=/app",
        "urlprefix-strip.example.com/old prepend=/v1",
        "urlprefix-strip.example.com/both strip=/both prepend=/new",
      ]
    }
    task "t" {
      driver = "exec"
    }
  }
}
