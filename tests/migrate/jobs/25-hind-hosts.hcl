job "hind-two" {
  group "main" {
    service {
      name = "hind-two"
      port = "http"
      tags = [
        "https://one.hind.example.com",
        "https://two.hind.example.com"
      ]
    }
    task "main" {
      driver = "docker"
    }
  }
}
