using VirtBackup.Proofs.Replication.Faults;
using VirtBackup.Proofs.Replication.SiteLoss;
using VirtBackup.Proofs.Replication.WanSpeed;
using VirtBackup.Testing.CommandLine;
using VirtBackup.Testing.Proofs;

if (args is [TlsTransfer.Receive or TlsTransfer.Send, ..])
{
    return await TlsTransfer.ServeAsync(args);
}
LoadedCommandLine.Install();
IProof[] proofs = [new WanSpeedProof(), new FaultsProof(), new SiteLossProof()];
if (args.Length == 0 || proofs.FirstOrDefault(candidate => candidate.Name == args[0]) is not { } proof)
{
    Console.Error.WriteLine($"Usage: PROOF {ProofOptions.Usage}; proofs: {string.Join(", ", proofs.Select(candidate => candidate.Name))}");
    return 2;
}
return await ProofProgram.RunAsync(proof, args[1..]);
