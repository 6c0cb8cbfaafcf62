module tokenweir.example/gateway

go 1.19
