job "mesh" {
  group "g" {
    network {
      mode = "bridge"
    }
    service {
      name = "mesh"
      port = "9001"
      tags = ["urlprefix-mesh.example.com/"]

      connect {
        sidecar_service {
          tags = ["sidecar"]
          proxy {
            upstreams {
              destination_name = "db"
              local_bind_port  = 5432
            }
          }
        }
      }
    }
    task "t" {
      driver = "exec"
    }
  }
}
