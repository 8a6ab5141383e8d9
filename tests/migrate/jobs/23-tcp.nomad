job "db" {
  group "db" {
    service {
      name = "db"
      port = "5432"
      tags = ["urlprefix-:5432 proto=tcp"]
    }
    task "postgres" {
      driver = "docker"
    }
  }
}
