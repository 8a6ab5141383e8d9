job "mixed" {
  group "g" {
    service {
      name = "mixed"
      tags = [
        "traefik.enable=true",
        "traefik.http.routers.mine.rule=Host(`mine.example.com`)",
        "urlprefix-mixed.example.com/",
      ]
    }
    task "t" {
      driver = "exec"
    }
  }
}
