job "host" {
  group "g" {
    service {
      name = "host"
      tags = [
        "urlprefix-dst.example.com/ host=dst",
        "urlprefix-named.example.com/ host=inner.example.com",
      ]
    }
    task "t" {
      driver = "exec"
    }
  }
}
