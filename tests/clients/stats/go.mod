module stats

go 1.21
