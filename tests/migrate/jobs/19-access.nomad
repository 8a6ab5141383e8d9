job "access" {
  group "g" {
    service {
      name = "access"
      tags = [
        "urlprefix-office.example.com/ allow=ip:10.0.0.0/8,ip:192.168.0.0/16",
        "urlprefix-nobots.example.com/ deny=ip:203.0.113.0/24",
      ]
    }
    task "t" {
      driver = "exec"
    }
  }
}
