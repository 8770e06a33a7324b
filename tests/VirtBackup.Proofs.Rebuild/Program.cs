using VirtBackup.Proofs.Rebuild;
using VirtBackup.Testing.Proofs;

if (args is [var verb, var folder] && RebuildRun.Verbs.Contains(verb))
{
    return await RebuildRun.ServeAsync(verb, folder);
}
return RebuildProof.Parse(args, out var proof, out var rest) ? await ProofProgram.RunAsync(proof, rest) : 2;
