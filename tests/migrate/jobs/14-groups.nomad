job "groups" {
  group "front" {
    service {
      name = "front"
      tags = ["urlprefix-groups.example.com/"]
    }
    task "t" {
      driver = "exec"
    }
  }

  group "back" {
    count = 2
    service {
      name = "back"
      tags = [
        "urlprefix-groups.example.com/api/"
      ]
    }
    task "t" {
      driver = "exec"

      service {
        name = "back-admin"
        tags = ["urlprefix-admin.groups.example.com/"]
      }
    }
  }
}
