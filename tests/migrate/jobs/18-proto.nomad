job "proto" {
  group "g" {
    service {
      name = "proto"
      tags = [
        "urlprefix-tls.example.com/ proto=https",
        "urlprefix-grpc.example.com/ proto=grpc",
      ]
    }
    task "t" {
      driver = "exec"
    }
  }
}
