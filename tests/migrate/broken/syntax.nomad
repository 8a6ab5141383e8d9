job "broken" {
  group "g" {
    service {
      name = 
    }
  }
}
