using VirtBackup.Proofs.CollectionScale.Generation;
using VirtBackup.Proofs.Rebuild;
using VirtBackup.Testing.Proofs;

if (args is [var verb, var folder] && RebuildRun.Verbs.Contains(verb))
{
    return await RebuildRun.ServeAsync(verb, folder);
}
return ChunksOption.TryTake(RebuildProof.ProofName, args, out var chunks, out var rest) ? await ProofProgram.RunAsync(new RebuildProof(chunks), rest) : 2;
