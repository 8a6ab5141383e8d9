/* Nothing of Fabio in here:
   this file has to come out as it is. */
job   "batch"   {
	type = "batch"   # tabs
	group "g" {
		service {
			name = "batch"
			tags = [ "a" , "b" ,
				"c" ]
			meta { x = "1" }
		}
		task "t" {
			driver = "exec"
			template {
				data = <<EOH
urlprefix-not.a.tag/
{{ range service "db" }}${not} "quoted" {{ end }}
EOH
				destination = "local/x"
			}
		}
	}
}
