import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/**
 * The npm packages that the image carries, from package-lock.json alone.
 *
 * @returns `entries` of the lock file by their place, `roots` with the version of each direct dependency, and the `lock` itself.
 */
export function shippedPackages(root) {
  const { dependencies, devDependencies } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
  const lock = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8'));
  const places = new Set(
    Object.entries(lock.packages)
      .filter(([place, { dev, optional, devOptional }]) => place !== '' && !dev && !optional && !devOptional)
      .map(([place]) => place),
  );
  const roots = { ...dependencies };
  for (const name of importedBy(path.join(root, 'console'))) {
    roots[name] = dependencies[name] ?? devDependencies[name];
    if (roots[name] === undefined)
      throw new Error(`The console imports ${name}, which package.json does not name`);
    follow(lock.packages, `node_modules/${name}`, places);
  }
  const entries = Object.fromEntries(
    [...places].sort().map((place) => [place, production(lock.packages[place])]),
  );
  return { entries, roots, lock };
}

/** A package that the console is made of is no longer one for development only. */
function production({ dev: _dev, devOptional: _devOptional, ...entry }) {
  return entry;
}

/** Names of the packages that the sources below a folder import. */
function importedBy(folder) {
  const names = new Set();
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !/\.(tsx?|css)$/.test(entry.name)) continue;
    const text = readFileSync(path.join(entry.parentPath, entry.name), 'utf8');
    for (const [, name] of text.matchAll(/(?:from |import |import\()['"]((?:@[\w.-]+\/)?[a-z][\w.-]*)/g))
      names.add(name);
  }
  return [...names].sort();
}

/** Adds a package and all that it needs to run, as Node.js would find them. */
function follow(packages, place, found) {
  if (found.has(place)) return;
  found.add(place);
  const { dependencies = {}, peerDependencies = {}, peerDependenciesMeta = {} } = packages[place];
  const peers = Object.keys(peerDependencies).filter((name) => !peerDependenciesMeta[name]?.optional);
  for (const name of [...Object.keys(dependencies), ...peers]) {
    const target = lookUp(packages, place, name);
    if (target !== undefined) follow(packages, target, found);
  }
}

function lookUp(packages, from, name) {
  for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
    const place = folder === '' ? `node_modules/${name}` : `${folder}/node_modules/${name}`;
    if (place in packages) return place;
    if (folder === '') return undefined;
  }
}
