job "pool" {
  group "one" {
    count = 2
    service {
      name = "pool-one"
      tags = ["urlprefix-pool.example.com/"]
    }
    task "t" {
      driver = "exec"
    }
  }
  group "two" {
    service {
      name = "pool-two"
      tags = ["urlprefix-pool.example.com/"]
    }
    task "t" {
      driver = "exec"
    }
  }
}
