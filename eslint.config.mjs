import { readdirSync } from 'node:fs';
import path from 'node:path';
import tseslint from 'typescript-eslint';
import importX, { createNodeResolver } from 'eslint-plugin-import-x';

/**
 * Which folders of src each one may use, besides itself: what is not here is refused. docs/architecture.md
 * says what each of them is for.
 */
const MAY_USE = {
  contracts: [],
  providers: ['contracts'],
  platform: ['contracts', 'providers', 'generated'],
  // Of sending webhooks, only what a subscription is checked and made with; neither knows of the domain.
  domain: ['contracts', 'platform', 'generated', 'webhooks/addresses.ts', 'webhooks/signature.ts'],
  webhooks: ['contracts', 'platform', 'domain'],
  activities: ['contracts', 'platform', 'domain', 'webhooks'],
  // Types of activities only: see below.
  workflows: ['contracts', 'activities'],
  bridges: ['contracts', 'providers', 'platform', 'domain', 'webhooks'],
  api: ['contracts', 'providers', 'platform', 'domain', 'webhooks'],
  embedded: ['platform'],
  roles: [
    ...['contracts', 'providers', 'platform', 'domain', 'webhooks', 'activities', 'bridges', 'api'],
    'embedded',
  ],
  operations: ['contracts', 'providers', 'platform', 'domain', 'webhooks', 'bridges', 'api', 'roles'],
  demo: ['contracts', 'platform', 'roles', 'operations'],
  commands: ['contracts', 'platform', 'embedded', 'roles', 'operations', 'demo'],
  generated: [],
};
for (const { name } of readdirSync(path.join(import.meta.dirname, 'src'), { withFileTypes: true }).filter(
  (entry) => entry.isDirectory(),
))
  if (!(name in MAY_USE)) throw new Error(`eslint.config.mjs does not say what src/${name} may use`);

const noRestricted = (patterns) => ({ 'no-restricted-imports': ['error', { patterns }] });
const group = (globs, message, extra = {}) => ({ group: globs, message, ...extra });

export default tseslint.config(
  {
    ignores: [
      'dist/',
      'node_modules/',
      'src/generated/',
      'console/src/generated/',
      '.remit/',
      'coverage/',
      'prisma.config.ts',
    ],
  },
  {
    files: ['**/*.ts', '**/*.tsx'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    plugins: { 'import-x': importX },
    settings: {
      // Dynamic imports carry the .js that Node needs of the compiled code.
      'import-x/resolver-next': [
        createNodeResolver({ extensions: ['.ts', '.tsx', '.js'], extensionAlias: { '.js': ['.ts', '.js'] } }),
      ],
    },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: { arguments: false } }],
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/no-explicit-any': 'error',
      'import-x/no-cycle': ['error', { ignoreExternal: true }],
      eqeqeq: 'error',
      'no-console': 'error',
    },
  },
  // What a component does in an event is its own affair; React waits for no promise.
  {
    files: ['console/**/*.tsx'],
    rules: {
      '@typescript-eslint/no-misused-promises': [
        'error',
        { checksVoidReturn: { arguments: false, attributes: false } },
      ],
    },
  },
  // Dependencies point one way (MAY_USE above).
  {
    files: ['src/**/*.ts'],
    rules: {
      'import-x/no-restricted-paths': [
        'error',
        {
          zones: Object.entries(MAY_USE).map(([folder, used]) => ({
            target: `./src/${folder}`,
            from: './src',
            except: [folder, ...used].map((each) => `./${each}`),
            message: `src/${folder} may use ${used.join(', ') || 'nothing of ours'} (eslint.config.mjs)`,
          })),
        },
      ],
    },
  },
  {
    files: ['src/workflows/**/*.ts'],
    rules: noRestricted([
      group(
        ['node:*', 'fs', 'path', 'crypto', 'pg', 'kafkajs', 'express'],
        'workflow code is deterministic: no Node built-ins, no clients',
      ),
      group(['**/activities/**'], 'workflows import activity types only', { allowTypeImports: true }),
    ]),
  },
  // A connection that breaks while it is checked out must not end the process (platform/postgres-pool.ts); producers have one maker.
  {
    files: ['src/**/*.ts'],
    ignores: ['src/platform/postgres-pool.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector:
            'CallExpression[callee.property.name="connect"]:matches([callee.object.name=/pool/i], [callee.object.property.name=/pool/i])',
          message:
            'connections are checked out by withClient or inTransaction (platform/postgres-pool.ts) alone',
        },
        {
          selector:
            'ImportDeclaration[source.value="pg"][importKind!="type"] ImportSpecifier[imported.name="Pool"]',
          message: 'pools are opened by createPool (platform/postgres-pool.ts) alone',
        },
        {
          selector:
            'CallExpression[callee.property.name="producer"]:matches([callee.object.name="kafka"], [callee.object.property.name="kafka"])',
          message:
            'kafkajs loses messages when it repeats a request by itself: createProducer and sendWhole (platform/kafka-produce.ts)',
        },
      ],
    },
  },
  { files: ['src/cli.ts', 'bench/**/*.ts', 'src/demo/demo*.ts'], rules: { 'no-console': 'off' } },
);
