using VirtBackup.Proofs.Migration;
using VirtBackup.Testing.CommandLine;
using VirtBackup.Testing.Proofs;

LoadedCommandLine.Install();
IProof[] proofs = [new FaultsProof(), new DowntimeProof()];
if (args.Length == 0 || proofs.FirstOrDefault(candidate => candidate.Name == args[0]) is not { } proof)
{
    Console.Error.WriteLine($"Usage: PROOF {ProofOptions.Usage}; proofs: {string.Join(", ", proofs.Select(candidate => candidate.Name))}");
    return 2;
}
return await ProofProgram.RunAsync(proof, args[1..]);
