// GET /work/<units>: hashes on the event loop, as rendering or serialising would; argument: port.
const http = require('http');
const crypto = require('crypto');
http.createServer((request, response) => {
  const units = Number(request.url.split('/')[2] || 1);
  let digest = Buffer.from('headroom');
  for (let round = 0; round < units; round++) digest = crypto.pbkdf2Sync(digest, 'node', 4600, 32, 'sha256');
  const body = JSON.stringify({ units, digest: digest.toString('hex') });
  response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}).listen(Number(process.argv[2]), '127.0.0.1');
