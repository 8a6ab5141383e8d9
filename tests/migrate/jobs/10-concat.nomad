variable "extra" {
  type    = list(string)
  default = []
}

job "concat" {
  group "g" {
    service {
      name = "concat"
      tags = concat(
        [
          "urlprefix-concat.example.com/",
          "x", # stays
        ],
        var.extra,
      )
    }
    task "t" {
      driver = "exec"
    }
  }
}
