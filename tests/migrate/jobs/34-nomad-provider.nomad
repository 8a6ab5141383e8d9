job "native" {
  namespace = "team"
  group "g" {
    service {
      provider = "nomad"
      name     = "native"
      tags     = ["urlprefix-native.example.com/",
                  "second"]
    }
    task "t" {
      driver = "exec"
    }
  }
}
