services {
  name = "many-a"
  port = 9001
  tags = ["urlprefix-a.many.example.com/"]
}
services {
  name = "many-b"
  port = 9002
  tags = [
    "urlprefix-b.many.example.com/" # no comma
  ]
}
