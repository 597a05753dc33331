import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { findExecutable, rememberedProbe } from './cache';
import { once } from './downloads';
import { builtGoCommand, ensureGoCommand, type GoCommand } from './go-build';

/** What the tests check the Helm chart with; nothing else of remit needs them. */
const HELM: GoCommand = {
  asset: 'helm',
  package: 'helm.sh/helm/v3/cmd/helm',
  version: '3.22.0',
  executable: 'helm',
  folder: 'helm',
  title: 'Helm',
  progressTitle: 'Helm',
  takes: 'one to two minutes',
  linkerFlags: '-s -w -X helm.sh/helm/v3/internal/version.version=v3.22.0',
};
const KUBE_SCORE: GoCommand = {
  asset: 'kube-score',
  package: 'github.com/zegl/kube-score/cmd/kube-score',
  version: '1.20.0',
  executable: 'kube-score',
  folder: 'kube-score',
  title: 'kube-score',
  progressTitle: 'kube-score',
  takes: 'half a minute',
  linkerFlags: '-s -w -X main.version=1.20.0',
};
/** From 3.14 on, and 4, Helm renders the chart alike. */
const HELM_MINIMUM: readonly [number, number] = [3, 14];

/** The `helm` to run: one that is installed and new enough, else the one built by us; undefined when there is neither. */
export function findHelm(): string | undefined {
  const installed = findExecutable('helm');
  if (installed !== undefined && isNewEnough(installed)) return installed;
  return existing(builtGoCommand(HELM));
}

/** The `kube-score` built by us; its checks differ between versions, so no other will do. */
export const findKubeScore = (): string | undefined => existing(builtGoCommand(KUBE_SCORE));

const existing = (file: string): string | undefined => (existsSync(file) ? file : undefined);

/** `v3.22.0+g…` → whether that is new enough. */
function isNewEnough(executable: string): boolean {
  try {
    const text = rememberedProbe(executable, () =>
      execFileSync(executable, ['version', '--short'], { encoding: 'utf8', timeout: 20_000 }),
    );
    const [, major, minor] = /^v(\d+)\.(\d+)/.exec(text) ?? [];
    if (major === undefined || minor === undefined) return false;
    const [wantedMajor, wantedMinor] = HELM_MINIMUM;
    return Number(major) > wantedMajor || (Number(major) === wantedMajor && Number(minor) >= wantedMinor);
  } catch {
    return false;
  }
}

/**
 * Brings Helm and kube-score into the cache of this user; does nothing when they are there. Without Go, nothing is built:
 * then only the tests of the chart fail, and say so.
 * @throws EmbeddedError when a build fails.
 */
export async function ensureKubernetesTools(report: (line: string) => void): Promise<void> {
  if (findHelm() !== undefined && findKubeScore() !== undefined) return;
  if (findExecutable('go') === undefined) {
    report(
      'Helm and kube-score: there is no Go to build them with, so the tests of the Helm chart will fail',
    );
    return;
  }
  await once('kubernetes-tools', report, async () => {
    if (findHelm() === undefined) await ensureGoCommand(HELM, report);
    if (findKubeScore() === undefined) await ensureGoCommand(KUBE_SCORE, report);
  });
}
