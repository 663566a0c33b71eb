// What the bench deploys: listens on $PORT0 and answers every request. As light as the yardstick's busybox httpd, so that starting the farm's side of a task
// is measured and not the program.
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

int main(void) {
  const char* port = getenv("PORT0");
  int one = 1, server = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in at = {.sin_family = AF_INET};
  if (!port || server < 0) return 1;
  at.sin_port = htons((unsigned short)atoi(port));
  setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(server, (struct sockaddr*)&at, sizeof at) != 0 || listen(server, 128) != 0) return 1;
  for (;;) {
    char request[4096];
    int peer = accept(server, NULL, NULL);
    if (peer < 0) continue;
    if (read(peer, request, sizeof request) > 0 && write(peer, answer, strlen(answer)) < 0) return 1;
    close(peer);
  }
}
