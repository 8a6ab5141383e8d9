service {
  name    = "consul-hcl"
  id      = "consul-hcl-1"
  address = "10.0.0.3"
  port    = 9000
  tags    = ["urlprefix-hcl.consul.example.com/", "primary"]

  check {
    http     = "http://localhost:9000/health"
    interval = "10s"
  }
}
