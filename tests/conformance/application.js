// The same few answers as application.py, and one line of log for each.
const http = require("http");
const answers = {
  "/big": [200, "x".repeat(300000)], "/empty": [204, ""], "/moved": [302, "", { Location: "/ok" }],
  "/same": [304, ""], "/missing": [404, "no such thing"], "/broken": [500, "broken"],
};
http.createServer((request, response) => {
  request.resume().on("end", () => {
    const path = request.url.split("?")[0];
    const readable = ["GET", "HEAD"].includes(request.method);
    const [status, body, headers] = readable ? answers[path] || [200, "ok"] : [201, "made"];
    console.log(`"${request.method} ${request.url} HTTP/${request.httpVersion}" ${status}`);
    response.writeHead(status, headers || {});
    if (readable && path === "/pieces") for (let n = 0; n < 50; n++) response.write("piece of an answer\n");
    response.end(body);
  });
}).listen(Number(process.argv[2]), "127.0.0.1");
