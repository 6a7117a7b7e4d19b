module example.com/taskgateway

go 1.19
