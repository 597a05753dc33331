import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, open, rm } from 'node:fs/promises';
import path from 'node:path';
import { finished } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { MANIFEST, BASE_TAR, renameDurably, type Archive, type BaseBackup } from './archive';
import type { ReplicationConnection, Server } from './replication';

/** How far it is, in bytes of the server's files. */
export type Progress = (done: number, total: number) => void;

/** The kinds of messages of a base backup: each is followed by the text or bytes that it is about. */
const [NEW_ARCHIVE, DATA, MANIFEST_BEGINS, PROGRESS] = ['n', 'd', 'm', 'p'].map((letter) =>
  letter.charCodeAt(0),
);

/**
 * Copies the server's files while it works, with the write-ahead log that makes them whole, into an archive. The server
 * itself reads them, checks the checksum of each page, and says in a manifest what it has sent. Safe to interrupt: a backup
 * has its name when it is complete.
 * @throws what the server refuses: a page whose checksum is wrong, a login without REPLICATION, no free wal sender.
 */
export async function takeBaseBackup(
  connection: ReplicationConnection,
  server: Server,
  archive: Archive,
  progress: Progress,
): Promise<BaseBackup> {
  await archive.removeUnfinished();
  const startedAt = await connection.now();
  const name = startedAt.replaceAll(/[-:.]/g, '');
  const aside = `${archive.baseFolder(name)}.part`;
  await mkdir(aside, { mode: 0o700 });
  const gzip = createGzip({ level: 1 });
  const file = createWriteStream(path.join(aside, BASE_TAR), { mode: 0o600, flush: true });
  const written = finished(gzip.pipe(file));
  // It is awaited below; until then a full disk must not count as an error that nobody handles.
  written.catch(() => undefined);
  const manifest: Buffer[] = [];
  try {
    let into: 'tar' | 'manifest' | undefined;
    let bytes = 0;
    let total = 0;
    const rows = await connection.stream(
      `BASE_BACKUP (LABEL 'remit ${name}', PROGRESS, CHECKPOINT 'fast', WAL, MANIFEST 'yes', MANIFEST_CHECKSUMS 'SHA256')`,
      async (message) => {
        const body = message.subarray(1);
        switch (message[0]) {
          case NEW_ARCHIVE:
            if (into !== undefined)
              throw new Error(
                'this server has tablespaces of its own, which remit does not copy: use pg_basebackup',
              );
            into = 'tar';
            return;
          case MANIFEST_BEGINS:
            into = 'manifest';
            return;
          case PROGRESS:
            progress(Number(body.readBigInt64BE()), total);
            return;
          case DATA:
            if (into === 'manifest') {
              manifest.push(body);
              return;
            }
            bytes += body.length;
            if (file.errored) throw file.errored;
            if (!gzip.write(body)) await Promise.race([once(gzip, 'drain'), written]);
            return;
          default:
            throw new Error('the server sent something that is no part of a base backup');
        }
      },
      (row) => {
        // The size of the only tablespace, in kilobytes.
        if (typeof row['size'] === 'string') total = Number(row['size']) * 1_024;
      },
    );
    gzip.end();
    await written;
    await writeFlushed(path.join(aside, MANIFEST), Buffer.concat(manifest));
    checkManifest(Buffer.concat(manifest));
    const [start, end] = [rows[0], rows.at(-1)];
    const base: BaseBackup = {
      name,
      timeline: Number(start?.['tli']),
      startLsn: String(start?.['recptr']),
      endLsn: String(end?.['recptr']),
      startedAt,
      finishedAt: await connection.now(),
      serverVersion: server.version,
      bytes,
    };
    renameDurably(aside, archive.baseFolder(name));
    archive.writeBase(base);
    return base;
  } catch (error) {
    gzip.destroy();
    file.destroy();
    await rm(aside, { recursive: true, force: true });
    throw error;
  }
}

async function writeFlushed(file: string, content: Buffer): Promise<void> {
  const handle = await open(file, 'w', 0o600);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * The manifest's last line has the checksum of all before it.
 * @returns its files by their names.
 * @throws Error when the manifest is not whole.
 */
export function checkManifest(manifest: Buffer): Map<string, ManifestFile> {
  const at = manifest.lastIndexOf('"Manifest-Checksum"');
  const parsed = at < 0 ? undefined : (JSON.parse(manifest.toString('utf8')) as ParsedManifest);
  if (parsed?.['Manifest-Checksum'] !== createHash('sha256').update(manifest.subarray(0, at)).digest('hex'))
    throw new Error('its manifest is damaged');
  return new Map(
    parsed.Files.map((file) => [
      file.Path ?? Buffer.from(file['Encoded-Path'] ?? '', 'hex').toString('utf8'),
      { bytes: file.Size, sha256: file.Checksum },
    ]),
  );
}

export interface ManifestFile {
  bytes: number;
  sha256: string;
}

interface ParsedManifest {
  Files: { Path?: string; 'Encoded-Path'?: string; Size: number; Checksum: string }[];
  'Manifest-Checksum': string;
}
